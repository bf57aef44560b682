"""What a study gives out: its report, the dashboard, trackers, exported networks."""
