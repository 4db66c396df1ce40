"""Looking inside and comparing."""
