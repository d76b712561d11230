"""What a forecast sees besides the newest flow: expected flow, calendar, weather."""
