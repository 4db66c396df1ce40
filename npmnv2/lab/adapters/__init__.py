"""Runs of a network that can be compared: ours, and those of other frameworks, one file each.

An adapter imports its framework when it is opened. It takes the network's input and hands over every value that the
framework lets see; `npmnv2.lab.alignment` finds out which is which.
"""
