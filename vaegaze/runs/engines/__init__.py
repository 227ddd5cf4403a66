"""What runs a cohort's persons: this process, Ray, or SLURM. The outcome is the same with the same threads."""
