"""Tables: every placement of a small space, trained; how they are made and read."""
