"""The commands `cachekeep backup ...`. They need no service: only an endpoint, and a place for the backup."""
