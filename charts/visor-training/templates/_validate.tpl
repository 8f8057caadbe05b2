{{/* What the schema cannot say: settings that contradict each other end with a sentence. */}}
{{- define "visor-training.validate" -}}
{{- $name := include "visor-training.fullname" . -}}
{{- $data := .Values.data -}}
{{- $store := .Values.modelStore -}}
{{- $server := .Values.mlflow.server -}}
{{- $trains := or .Values.job.enabled .Values.cronJob.enabled .Values.trainJob.enabled -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$" $name) -}}
{{- fail (printf "the name %q must begin with a letter, hold only a-z, 0-9 and -, and have at most 40 characters; set fullnameOverride" $name) -}}
{{- end -}}
{{- range $value, $labels := dict "extraLabels" .Values.extraLabels "podLabels" .Values.podLabels -}}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if hasKey $labels . -}}
{{- fail (printf "%s sets %s, by which Services and NetworkPolicies find the pods; choose another label" $value .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $trains -}}
{{- if not (or .Values.config.text .Values.config.configMap.name) -}}
{{- fail "a config is required: --set-file config.text=training/configs/roofs.yaml, or config.configMap.name" -}}
{{- end -}}
{{- if and .Values.config.text .Values.config.configMap.name -}}
{{- fail "config.text and config.configMap.name are both set; keep one" -}}
{{- end -}}
{{- if not .Values.signing.secretName -}}
{{- fail "signing.secretName is required, as no archive goes unsigned: a Secret with visor.key, which `visor keys` makes" -}}
{{- end -}}
{{- if not (or $store.pvc.claim $store.s3.uri) -}}
{{- fail "a place for archives is required: modelStore.pvc.claim or modelStore.s3.uri" -}}
{{- end -}}
{{- end -}}
{{- with .Values.scoring -}}
{{- if .enabled -}}
{{- if not $store.pvc.claim -}}
{{- fail "scoring reads its archive from a volume; set modelStore.pvc.claim" -}}
{{- end -}}
{{- range $value, $set := dict "scoring.archive" .archive "scoring.publicKey" .publicKey "scoring.images.claim" .images.claim "scoring.output.claim" .output.claim -}}
{{- if not $set -}}
{{- fail (printf "%s is required: scoring needs an archive (NAME/VERSION), its public key, and claims of the images and for the scores" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $value, $resources := dict "resources" .Values.resources "signing.resources" .Values.signing.resources "scoring.resources" .Values.scoring.resources "mlflow.server.resources" $server.resources -}}
{{- $limits := $resources.limits | default dict -}}
{{- range $name, $asked := $resources.requests -}}
{{- with get $limits $name -}}
{{- if gt (include "visor-training.number" $asked | float64) (include "visor-training.number" . | float64) -}}
{{- fail (printf "%s requests %v of %s and limits it to %v; no pod could be made" $value $asked $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $store.pvc.claim $store.s3.uri -}}
{{- fail "modelStore.pvc.claim and modelStore.s3.uri are both set; keep one" -}}
{{- end -}}
{{- if and (eq $data.source "pvc") (not $data.pvc.claim) -}}
{{- fail "data.source pvc needs data.pvc.claim" -}}
{{- end -}}
{{- if and (eq $data.source "s3") (not $data.s3.uri) -}}
{{- fail "data.source s3 needs data.s3.uri" -}}
{{- end -}}
{{- if and (ne $data.source "pvc") $data.pvc.claim -}}
{{- fail (printf "data.pvc.claim is set but data.source is %s" $data.source) -}}
{{- end -}}
{{- if and (ne $data.source "s3") $data.s3.uri -}}
{{- fail (printf "data.s3.uri is set but data.source is %s" $data.source) -}}
{{- end -}}
{{- if and (eq $data.source "builtin") (eq (include "visor-training.configSource" .) "imagefolder") (not .Values.extraVolumes) -}}
{{- fail "the config reads an imagefolder and data.source is builtin; set data.source to pvc or s3" -}}
{{- end -}}
{{- if and (ne $data.source "builtin") (has (include "visor-training.configSource" .) (list "digits" "roofs")) -}}
{{- fail (printf "data.source is %s but the config trains on a built-in set; its data.source must be imagefolder" $data.source) -}}
{{- end -}}
{{- if and .Values.mlflow.trackingUri $server.enabled -}}
{{- fail "mlflow.trackingUri and mlflow.server.enabled are both set; keep one" -}}
{{- end -}}
{{- if and .Values.trainJob.enabled .Values.cronJob.enabled -}}
{{- fail "trainJob.enabled and cronJob.enabled are both set, and a CronJob makes no TrainJobs; keep one" -}}
{{- end -}}
{{- if and .Values.trainJob.enabled (gt (int .Values.trainJob.nodes) 1) (not .Values.home.existingClaim) (not (has "ReadWriteMany" .Values.home.accessModes)) -}}
{{- fail (printf "%v nodes share one home, which needs home.accessModes with ReadWriteMany" .Values.trainJob.nodes) -}}
{{- end -}}
{{- if and .Values.trainJob.enabled .Values.priorityClassName -}}
{{- fail "priorityClassName cannot be set for a TrainJob; set it in its runtime" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (eq .Values.networkPolicy.egress "dns") (not .Values.networkPolicy.extraEgress) -}}
{{- range list $data.s3.uri $store.s3.uri .Values.mlflow.trackingUri $server.artifacts.uri $server.backend.secretName -}}
{{- if . -}}
{{- fail (printf "networkPolicy.egress dns cuts the pods from %s; say the way in networkPolicy.extraEgress" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
