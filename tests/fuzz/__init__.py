"""Requests and connections that are wrong, for any server: made from descriptors and a seed."""
