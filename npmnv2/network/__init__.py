"""What a MobileNetV2 is, as data."""
