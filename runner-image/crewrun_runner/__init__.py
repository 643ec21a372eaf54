"""The runner: loads one crew, runs it once, and says truthfully how that ended.

Its two files and its environment come from the operator (`crewrun_api.names`), its answer is the outcome
record in the container's termination message. Only `crew` and what it imports know crewai, and they are
imported late: a wrong digest or a crew that cannot run costs milliseconds and no token.

    payload, definition, settings, failures, ledger, calls, record, redaction, delivery: decide, without I/O
    tokens, budget, exchange, failover, bound: what a request to a model can use and has used, and who is asked
    operations, narrator, traces, log_events: what is told of a crew's work, as lines and as spans
    inputs, sources, objects, answers: the same, for inputs from Secrets and crews that an image's code makes
    reporting, unkept, farewell: what is reported, when, and what an answer means, without I/O
    load, entrypoints, constructors, flows: what gives a crew, at the edge to CrewAI
    models, llm_classes, metering, transport, pricing: the edge where money is spent
    watcher, tracing, exporting: the edge to CrewAI's events and to OpenTelemetry
    lazy, absent, image, memory, store, servers, cgroup: what the image and the Pod have, and what they lack
    crew, listener, streams, message, progress, reporter, post, ending, __main__: the edges
    local: what stands in the place of a Pod's files and variables where there is no cluster
    webhook: another program, which tells a webhook of a run's end
"""
