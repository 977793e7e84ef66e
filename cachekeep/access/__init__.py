"""Who may do what, as the machine has it: files of further keys and of the trail of requests, and the module and agent
by which engines take IAM tokens. Adapters of domain.identity."""
