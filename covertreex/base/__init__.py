"""What every room stands on: checks of what callers give, threads, limits of the machine, progress."""
