"""Looking: what happened to a request, and where.

`lines` reads the lines of the layers' logs, `joined` puts them together by the request's number, `logs` and `why` are
the tasks.  Nothing here changes a host, but for `logs.install`.
"""
