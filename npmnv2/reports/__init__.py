"""Reports as web pages: one file each, without a network, for any browser."""
