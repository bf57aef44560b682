"""Where workers can be launched."""
