"""What runs for months without anyone looking: scheduler, jobs, nights, health."""
