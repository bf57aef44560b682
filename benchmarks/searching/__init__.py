"""Problems on which samplers are compared."""
