"""Serverless caches: follows what they hold, and writes what they shall be able to hold."""
