"""A classifier for your own classes: a linear head on a backbone's features, and features for scikit-learn."""
