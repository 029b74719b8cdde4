"""Open-loop load: sends on a schedule, whatever the server does, and says what that shows.

A closed loop sends its next call when the last one has answered, so a server that stalls is asked
less and looks well. Here each call has an intended time, its latency counts from there, and a
client that could not keep its own schedule refuses to report.

Pure: `arrivals` (schedules), `outcomes` (what became of each call), `summary` (figures),
`saturation` (which rate to try next), `chart` (SVG). On an event loop: `client`. Over processes:
`worker`, `fleet`. `targets` and `oip` make payloads; `arguments` and `command` are `fomofeed load`.
"""
