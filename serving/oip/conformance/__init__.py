"""Whether a server, any server, keeps the Open Inference Protocol v2: rule by rule.

Knows the protocol from its text alone: nothing of this project's codec is used, so a mistake there
cannot excuse itself here.
"""
