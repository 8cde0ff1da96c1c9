"""What accelerators there are and which of them are free: counted, published, and read by everybody else."""
