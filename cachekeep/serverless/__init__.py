"""Serverless caches: follows what they hold and use, and writes what they shall be able to hold, and their status."""
