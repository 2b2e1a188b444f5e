"""What comes in and goes out: files of points and trees, and trees on their way to other processes."""
