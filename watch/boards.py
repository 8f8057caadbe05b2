"""What people look at: the panels of each dashboard with their queries, for Grafana and for the page of `make watch`."""

from watch import queries as q
from watch.queries import Board, Panel, Query

OF_TRACK = ("track", "version")

SERVICE = Board(
    "service",
    "visor: service",
    "Rates, latencies, errors, refusals and what is full, of one release and its canary.",
    {
        "Requests": (
            Panel(
                "Requests",
                "Inference requests a second, by protocol and status.",
                (Query(q.rate("visor_request_seconds_count", ("protocol", "code")), "reqps", ("protocol", "code")),),
            ),
            Panel(
                "Latency",
                "From a request's first byte to its answer, answered requests alone; the line is the SLO's p95.",
                tuple(
                    Query(q.quantile(share, "visor_request_seconds", (), q.ANSWERED), "s", name=f"p{share * 100:.0f}")
                    for share in (0.5, 0.95, 0.99)
                ),
                limit="p95",
            ),
            Panel(
                "Failed",
                "Share of inference requests that failed on the server's side; the line is the SLO's error rate.",
                (Query(q.failed_share(), "percentunit", q.OF_MODEL),),
                limit="errors",
            ),
            Panel(
                "Refused",
                "Inference requests a second that were answered by an error, by the error's code.",
                (Query(q.rate("visor_requests_refused_total", ("code",)), "reqps", ("code",)),),
            ),
            Panel(
                "Rejected images",
                "Images a second that were answered by an error of their own.",
                (Query(q.rate("visor_images_rejected_total", ("code",)), "reqps", ("code",)),),
            ),
            Panel(
                "Other errors",
                "Requests other than inferences that were answered by an error, and what is no HTTP.",
                (Query(q.rate("visor_errors_total", ("code",)), "reqps", ("code",)),),
            ),
        ),
        "Where the time goes": (
            Panel(
                "Stages",
                "Mean seconds of an image in each stage.",
                (
                    Query(
                        f"{q.rate('visor_stage_seconds_sum', ('stage',))} / {q.rate('visor_stage_seconds_count', ('stage',))}",
                        "s",
                        ("stage",),
                    ),
                ),
            ),
            Panel(
                "Waiting",
                "How long images wait at the edge for a worker.",
                tuple(Query(q.waiting(share, ()), "s", name=f"p{share * 100:.0f}") for share in (0.5, 0.95)),
                limit="p95",
            ),
            Panel(
                "Cache",
                "Share of images whose answer was kept from before.",
                (
                    Query(
                        q.share(
                            q.rate("visor_cache_lookups_total", q.OF_MODEL, 'result="hit"'),
                            q.rate("visor_cache_lookups_total", q.OF_MODEL),
                        ),
                        "percentunit",
                        q.OF_MODEL,
                    ),
                ),
            ),
        ),
        "What is full": (
            Panel(
                "Queue",
                "Images that wait at the edge of each pod.",
                (Query(q.total(q.OF_POD, q.series("visor_queue_images")), "short", q.OF_POD),),
            ),
            Panel(
                "Memory of the edge",
                "Share of the memory for requests that is charged now; above 100 % nothing is let in.",
                (Query(q.memory_share(), "percentunit", q.OF_POD),),
                limit=0.9,
            ),
            Panel(
                "No room in memory",
                "Charges to that memory that found no room.",
                (Query(q.increase("visor_memory_refused", q.OF_POD), "short", q.OF_POD),),
            ),
            Panel(
                "Busy workers",
                "Seconds a second that TorchServe's workers spend on images; each is single-threaded, so these are cores.",
                (Query(q.rate("visor_stage_seconds_sum", q.OF_POD, 'stage!~"queue|transport"'), "short", q.OF_POD),),
            ),
            Panel(
                "CPU",
                "Cores that each container uses, as the kubelet counts them.",
                (
                    Query(
                        q.rate("container_cpu_usage_seconds_total", ("pod", "container"), 'container!=""'),
                        "short",
                        ("pod", "container"),
                        external=True,
                    ),
                ),
            ),
            Panel(
                "Lost log lines",
                "Lines of the log that nobody read in time.",
                (Query(q.increase("visor_log_lines_lost", q.OF_POD), "short", q.OF_POD),),
            ),
            Panel(
                "Pods",
                "Pods by what they serve.",
                (Query(q.total(q.OF_MODEL, q.series("visor_build_info"), "count"), "short", q.OF_MODEL),),
            ),
        ),
    },
)

DECISIONS = Board(
    "decisions",
    "visor: decisions",
    "What is answered: labels, decisions, how much people have to review, and how sure the network is.",
    {
        "Answers": (
            Panel(
                "Labels",
                "Share of each label among the answered images.",
                (
                    Query(
                        f"{q.rate('visor_decisions_total', (*q.OF_MODEL, 'label'))}"
                        f" / on (model, version) group_left () {q.rate('visor_decisions_total', q.OF_MODEL)}",
                        "percentunit",
                        (*q.OF_MODEL, "label"),
                    ),
                ),
            ),
            Panel(
                "Decisions",
                "Images a second by decision.",
                (Query(q.rate("visor_decisions_total", ("decision",)), "reqps", ("decision",)),),
            ),
            Panel(
                "Review",
                "Share of answered images that a person has to decide.",
                (Query(q.review_share(), "percentunit", q.OF_MODEL),),
            ),
            Panel(
                "Confidence",
                "Calibrated confidence of the label: a tenth of the images is below p10.",
                tuple(
                    Query(q.quantile(share, "visor_confidence", q.OF_MODEL), "percentunit", q.OF_MODEL, f"p{share * 100:.0f}")
                    for share in (0.1, 0.5, 0.9)
                ),
            ),
            Panel(
                "Mean confidence",
                "Where it falls by itself, images have become harder, or others.",
                (
                    Query(
                        f"{q.rate('visor_confidence_sum', q.OF_MODEL)} / {q.rate('visor_confidence_count', q.OF_MODEL)}",
                        "percentunit",
                        q.OF_MODEL,
                    ),
                ),
            ),
            Panel(
                "Rejected images",
                "Share of images that were answered by an error of their own.",
                (Query(q.rejected_share(), "percentunit", q.OF_MODEL),),
            ),
        ),
    },
)

DRIFT = Board(
    "drift",
    "visor: drift",
    "Whether images are still like those of the calibration split, for which alone the bound on missed images holds.",
    {
        "Which moved": (
            Panel(
                "Index of its limit",
                "Population stability index of each figure in the window, as a multiple of its limit: above 1 it has drifted.",
                (Query(q.psi_of_limit(), "short", q.OF_FIGURE),),
                limit=1.0,
            ),
            Panel(
                "Moved most",
                "The five figures that are nearest to their limit, or farthest above it.",
                (Query(f"topk(5, {q.psi_of_limit()})", "short", q.OF_FIGURE),),
                kind="bars",
                limit=1.0,
            ),
        ),
        "Figures": (
            Panel(
                "Index",
                "Population stability index of each figure.",
                (Query(f"{q.psi()} and {q.images()} > 0", "short", q.OF_FIGURE),),
            ),
            Panel(
                "Limit",
                "Limit of the index: the more images in the window, the lower.",
                (Query(f"{q.psi_limit()} and {q.images()} > 0", "short", q.OF_FIGURE),),
            ),
            Panel(
                "Images",
                "Images in the window that were counted.",
                (Query(q.total(q.OF_MODEL, q.images(), "max"), "short", q.OF_MODEL),),
            ),
            Panel(
                "Bins of the window",
                "Share of each bin among the window's images, against its share in the reference.",
                (Query(f"{q.bin_share()} / {q.reference_share()}", "short", q.OF_BIN),),
                kind="bars",
                limit=1.0,
            ),
        ),
    },
    window="$drift_window",
)

CANARY = Board(
    "canary",
    "visor: canary beside stable",
    "The same numbers of both tracks; the archive's version tells them apart where there is no track (Knative).",
    {
        "Both tracks": (
            Panel(
                "Requests",
                "Inference requests a second.",
                (Query(q.tracked("visor_request_seconds_count", ()), "reqps", OF_TRACK),),
            ),
            Panel(
                "Latency, p95",
                "Answered requests alone.",
                (
                    Query(
                        f"histogram_quantile(0.95, {q.tracked('visor_request_seconds_bucket', ('le',), q.ANSWERED)})",
                        "s",
                        OF_TRACK,
                    ),
                ),
                limit="p95",
            ),
            Panel(
                "Failed",
                "Share of inference requests that failed on the server's side.",
                (
                    Query(
                        q.share(
                            q.tracked("visor_request_seconds_count", (), q.FAILED), q.tracked("visor_request_seconds_count", ())
                        ),
                        "percentunit",
                        OF_TRACK,
                    ),
                ),
                limit="errors",
            ),
            Panel(
                "Decisions",
                "Share of each decision among the answered images.",
                (
                    Query(
                        f"{q.tracked('visor_decisions_total', ('decision',))} / on (track, version) group_left () "
                        f"{q.tracked('visor_decisions_total', ())}",
                        "percentunit",
                        (*OF_TRACK, "decision"),
                    ),
                ),
            ),
            Panel(
                "One image a request",
                "Of each request one image, drawn by chance: share of each result. A release by evidence compares these.",
                (
                    Query(
                        f"{q.tracked('visor_drawn_images_total', ('result',))} / on (track, version) group_left () "
                        f"{q.tracked('visor_drawn_images_total', ())}",
                        "percentunit",
                        (*OF_TRACK, "result"),
                    ),
                ),
            ),
            Panel(
                "Mean confidence",
                "Calibrated confidence of the label.",
                (
                    Query(
                        f"{q.tracked('visor_confidence_sum', ())} / {q.tracked('visor_confidence_count', ())}",
                        "percentunit",
                        OF_TRACK,
                    ),
                ),
            ),
            Panel(
                "Rejected images",
                "Images a second that were answered by an error of their own.",
                (Query(q.tracked("visor_images_rejected_total", ("code",)), "reqps", (*OF_TRACK, "code")),),
            ),
            Panel(
                "Pods",
                "Pods by track and version.",
                (Query(q.total(OF_TRACK, q.series("visor_build_info"), "count"), "short", OF_TRACK),),
            ),
        ),
        "Shadow": (
            Panel(
                "Shadowed images",
                "Images a second that the canary was asked about, too, by what became of them; users got the stable answer.",
                (Query(q.rate("visor_shadow_images_total", ("result",)), "reqps", ("result",)),),
            ),
            Panel(
                "Disagreement",
                "Share of the images answered by both whose label or decision differs; of all, and of one a request, by which a "
                "release is judged.",
                (
                    Query(q.disagreement(), "percentunit", q.OF_MODEL, "all"),
                    Query(q.disagreement(images="visor_shadow_drawn_images_total"), "percentunit", q.OF_MODEL, "one a request"),
                ),
            ),
            Panel(
                "Latency of the canary's answer",
                "From a shadow's question to the canary's answer.",
                tuple(
                    Query(q.quantile(share, "visor_shadow_seconds", ()), "s", name=f"p{share * 100:.0f}") for share in (0.5, 0.95)
                ),
                limit="p95",
            ),
            Panel(
                "Difference of scores",
                "The canary's score minus the stable one of the same image.",
                tuple(
                    Query(q.quantile(share, "visor_shadow_score_difference", ()), "short", name=f"p{share * 100:.0f}")
                    for share in (0.05, 0.5, 0.95)
                ),
            ),
            Panel(
                "Expected cost of an image",
                "Of each track's decisions, by its own probabilities and the stable archive's costs.",
                (
                    Query(
                        f"{q.rate('visor_shadow_cost_total', ('whose',))} / on () group_left () "
                        f"{q.rate('visor_shadow_priced_images_total', ())}",
                        "short",
                        ("whose",),
                    ),
                ),
            ),
        ),
    },
)

BOARDS = (SERVICE, DECISIONS, DRIFT, CANARY)
