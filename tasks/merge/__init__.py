"""How several archives become one dataset: everything that is decided before the first file is written."""
