"""Load tests of any V2 server, over the wire alone: traffic as data, answers looked at, a verdict by `slo.yaml`.

`errors`, `documents`, `slo`, `shapes`, `options`, `samples`, `answers`, `verdict` and `overload` know neither network nor clock;
`plots` and `report` draw what they found; `pictures` and `local_server` run visor's commands; `clients`, `users`, `traffic` and
`locustfile` send. The last four alone (and `__main__` through them) import locust, which replaces the standard library's sockets
by gevent's when it is imported.
"""
