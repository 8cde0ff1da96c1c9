"""One module for each change of the tables, in order. Once released, a module is never changed."""
