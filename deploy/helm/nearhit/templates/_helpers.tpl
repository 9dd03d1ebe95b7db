{{- define "nearhit.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "nearhit.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nearhit.labels" -}}
{{ include "nearhit.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "nearhit.secret" -}}
{{- default (include "nearhit.name" .) .Values.secrets.existing -}}
{{- end -}}

{{/* "true" where all replicas have one document store. */}}
{{- define "nearhit.shared" -}}
{{- if or .Values.shared .Values.secrets.documentsUrl -}}true{{- end -}}
{{- end -}}

{{- define "nearhit.kind" -}}
{{- if include "nearhit.shared" . -}}Deployment{{- else -}}StatefulSet{{- end -}}
{{- end -}}

{{/* Replicas on one store must hear of each other's purges. */}}
{{- define "nearhit.check" -}}
{{- $several := or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) -}}
{{- $told := or .Values.secrets.replicationUrl .Values.secrets.existing -}}
{{- if and $several (include "nearhit.shared" .) (not $told) -}}
{{- fail "several replicas on one document store need secrets.replicationUrl (or an existing Secret with NEARHIT_REPLICATION__URL)" -}}
{{- end -}}
{{- end -}}
