"""What `virtbackupd tree` and `virtbackupd top` find out and how they show it."""
