"""Files of access: further keys with their policies, and the trail of requests. Adapters of domain.identity."""
