"""What a change of stored resources will mean, one kind of change a file. Pure; put together by plan.preview."""
