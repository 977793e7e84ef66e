"""Adapters that bring notices to subscribers: webhooks, e-mail, commands."""
