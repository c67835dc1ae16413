"""What any room may use: files on disk, and pictures to look at."""
