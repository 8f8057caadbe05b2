{{/* What the schema cannot say: settings that contradict each other end with a sentence. */}}
{{- define "visor-console.validate" -}}
{{- $name := include "visor-console.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$" $name) -}}
{{- fail (printf "the name %q must begin with a letter, hold only a-z, 0-9 and -, and have at most 40 characters; set fullnameOverride" $name) -}}
{{- end -}}
{{- range $value, $labels := dict "extraLabels" .Values.extraLabels "podLabels" .Values.podLabels -}}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if hasKey $labels . -}}
{{- fail (printf "%s sets %s, by which the Service and the NetworkPolicy find the pods; choose another label" $value .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not .Values.servers -}}
{{- fail "servers is required: the visor servers in front of which the console stands, such as [{url: http://roofs-predictor.vision}]" -}}
{{- end -}}
{{- if not .Values.keys.secretName -}}
{{- fail "keys.secretName is required, as nobody is let in without a key: a Secret with keys.json, which `visor console key NAME --scope admin` writes" -}}
{{- end -}}
{{- include "visor-console.validate.storage" . -}}
{{- include "visor-console.validate.pods" . -}}
{{- include "visor-console.validate.egress" . -}}
{{- if and .Values.links.mlflowInside (not .Values.links.mlflow) -}}
{{- fail "links.mlflowInside is set, but links.mlflow is not; say where browsers find MLflow, or leave it out" -}}
{{- end -}}
{{- if .Values.route.enabled -}}
{{- if not (and .Values.route.gateway.name .Values.route.gateway.namespace) -}}
{{- fail "route.gateway.name and route.gateway.namespace say which Gateway the route attaches to; set both" -}}
{{- end -}}
{{- $label := printf "%s-%s" $name .Release.Namespace -}}
{{- if and (not .Values.route.hostnames) (gt (len $label) 63) -}}
{{- fail (printf "the host %s.%s begins with a label of %d characters, and DNS allows 63; set route.hostnames or a shorter fullnameOverride" $label .Values.route.domain (len $label)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.metrics.serviceMonitor -}}
{{- if gt (include "visor-console.seconds" .scrapeTimeout | float64) (include "visor-console.seconds" .interval | float64) -}}
{{- fail (printf "metrics.serviceMonitor.scrapeTimeout %s is above its interval %s, and Prometheus takes no such target" .scrapeTimeout .interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What several pods have to share. */}}
{{- define "visor-console.validate.storage" -}}
{{- $replicas := int .Values.replicas -}}
{{- if gt $replicas 1 -}}
{{- if not .Values.database.secretName -}}
{{- fail (printf "replicas %d need one database, and SQLite is the file of one pod; name a Secret with a PostgreSQL URL in database.secretName" $replicas) -}}
{{- end -}}
{{- if not .Values.session.secretName -}}
{{- fail (printf "replicas %d need session.secretName, as each would refuse the sessions that another one signed" $replicas) -}}
{{- end -}}
{{- if not (or .Values.pictures.s3.uri (include "visor-console.shared" .)) -}}
{{- fail (printf "replicas %d need pictures that all of them reach: pictures.s3.uri, or persistence.accessModes with ReadWriteMany" $replicas) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.persistence.existingClaim (not (include "visor-console.volume" .)) -}}
{{- fail "persistence.existingClaim is set, but tables and pictures are both elsewhere (database.secretName, pictures.s3.uri); leave one of them out" -}}
{{- end -}}
{{- if not .Values.pictures.s3.uri -}}
{{- range $key, $value := omit .Values.pictures.s3 "uri" -}}
{{- if $value -}}
{{- fail (printf "pictures.s3.%s is set, but pictures.s3.uri is not; say where the pictures go, or leave it out" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What would install, and then make no pod, or one that is cut off. */}}
{{- define "visor-console.validate.pods" -}}
{{- $limits := .Values.resources.limits | default dict -}}
{{- range $name, $asked := .Values.resources.requests -}}
{{- with get $limits $name -}}
{{- if gt (include "visor-console.number" $asked | float64) (include "visor-console.number" . | float64) -}}
{{- fail (printf "resources requests %v of %s and limits it to %v; no pod could be made" $asked $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $volumes := list "tmp" "data" "config" "releases" -}}
{{- range .Values.extraVolumes -}}
{{- if has .name $volumes -}}
{{- fail (printf "extraVolumes has a second volume %s; choose another name" .name) -}}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- range .Values.extraVolumeMounts -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "extraVolumeMounts mounts %s, and extraVolumes has no volume of that name" .name) -}}
{{- end -}}
{{- end -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (add (int .Values.drainSeconds) 15 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds %v must be at least drainSeconds %v and 15 more, to finish requests in" .Values.terminationGracePeriodSeconds .Values.drainSeconds) -}}
{{- end -}}
{{- end -}}

{{/* With `egress: dns`, each place that the console asks has a way: a Service's namespace by name, others by extraEgress. */}}
{{- define "visor-console.validate.egress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.enabled (eq $policy.egress "dns") (not $policy.extraEgress) -}}
{{- $asked := list .Values.links.prometheus (.Values.links.mlflowInside | default .Values.links.mlflow) .Values.pictures.s3.endpoint -}}
{{- range .Values.servers -}}
{{- $asked = append $asked .url -}}
{{- end -}}
{{- range $url := compact $asked -}}
{{- $host := get (urlParse $url) "host" | regexFind "^[^:]+" -}}
{{- $parts := splitList "." $host -}}
{{- $namespace := $.Release.Namespace -}}
{{- if gt (len $parts) 1 -}}
{{- $namespace = index $parts 1 -}}
{{- end -}}
{{- if not (and (regexMatch "^[^.]+(\\.[^.]+(\\.svc(\\.cluster\\.local)?)?)?$" $host) (has $namespace $policy.egressNamespaces)) -}}
{{- fail (printf "networkPolicy.egress dns cuts the pods from %s; name the Service's namespace in networkPolicy.egressNamespaces, or say the way in networkPolicy.extraEgress" $url) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.pictures.s3.uri (not .Values.pictures.s3.endpoint) -}}
{{- fail (printf "networkPolicy.egress dns cuts the pods from %s; say the way in networkPolicy.extraEgress" .Values.pictures.s3.uri) -}}
{{- end -}}
{{- end -}}
{{- end -}}
