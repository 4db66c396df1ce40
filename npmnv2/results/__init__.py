"""What people get back: values, tables and pictures."""
