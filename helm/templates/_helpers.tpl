{{/*
The name of everything. It leaves 17 of the 63 characters that a name may have to what the longest object's name adds
("-migrate-" and eight characters). A longer name ends with its own hash, so that two that begin alike stay apart. Only
the release that is called like the chart does without the chart's name: a looser rule gives two releases one name.
*/}}
{{- define "switchgear.fullname" -}}
{{- $name := .Values.fullnameOverride }}
{{- if not $name }}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (eq .Chart.Name .Release.Name) }}
{{- end }}
{{- if gt (len $name) 46 }}
{{- $name = printf "%s-%s" ($name | trunc 37 | trimSuffix "-") ($name | sha256sum | trunc 8) }}
{{- end }}
{{- $name }}
{{- end }}

{{/* What never changes for a component of a release: selectors are immutable. Takes (dict "root" . "component" NAME). */}}
{{- define "switchgear.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The labels of objects and pods. Takes the same. */}}
{{- define "switchgear.labels" -}}
{{ include "switchgear.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "switchgear.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "switchgear.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* The fewest replicas there will be. */}}
{{- define "switchgear.leastReplicas" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicaCount .Values.autoscaling.enabled }}
{{- end }}

{{/* One variable from the Secret. Takes (dict "root" . "name" VARIABLE "key" KEY). */}}
{{- define "switchgear.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .root.Values.existingSecret }}
      key: {{ .key }}
{{- end }}
