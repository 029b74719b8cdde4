"""What the serving benches measure against, each a process of its own, and how they are asked."""
