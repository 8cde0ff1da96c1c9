"""What acts in the background: it counts what is free. Any number of controllers may run, one acts."""
