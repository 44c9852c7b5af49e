"""What stands behind a sweep's launcher: all cores of a machine, Slurm, Ray."""
