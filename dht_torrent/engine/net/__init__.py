"""The network: what the engine asks of one (`protocols`), and the real one."""
