"""What a search does, one kind of run after the other. Each is a task source of a worker."""
