{{- define "crewrun.chart" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{/* What every object of this release is named after. Short enough for suffixes in a DNS label, and without the dots
that a release's name may have: a Service's may not. */}}
{{- define "crewrun.name" -}}
{{- $chart := include "crewrun.chart" . }}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) }}
{{- .Values.fullnameOverride | default $name | replace "." "-" | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "crewrun.selector" -}}
app.kubernetes.io/name: "{{ include "crewrun.chart" . }}"
app.kubernetes.io/instance: "{{ .Release.Name }}"
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of objects that are no part of the operator's own Pod. */}}
{{- define "crewrun.labels" -}}
{{- $own := dict "app.kubernetes.io/name" (include "crewrun.chart" .) "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "crewrun" "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- merge $own .Values.commonLabels | toYaml }}
{{- end }}

{{- define "crewrun.operatorLabels" -}}
{{- merge (include "crewrun.selector" . | fromYaml) (include "crewrun.labels" . | fromYaml) | toYaml }}
{{- end }}

{{/* An image: (dict "image" .Values.operator.image "root" $) */}}
{{- define "crewrun.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}
{{- else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "crewrun.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (ternary (include "crewrun.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "crewrun.tlsSecret" -}}
{{ .Values.reports.tls.secretName | default (printf "%s-tls" (include "crewrun.name" .)) }}
{{- end }}

{{/* The names that runners know the operator by. */}}
{{- define "crewrun.host" -}}
{{ include "crewrun.name" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "crewrun.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "crewrun.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where `helm test` makes its run: a namespace that is watched. */}}
{{- define "crewrun.testNamespace" -}}
{{- if and .Values.watch.namespaces (not (has .Release.Namespace .Values.watch.namespaces)) }}{{ first .Values.watch.namespaces }}
{{- else }}{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "crewrun.policy" -}}
{{ omit .Values.policy "admission" | toJson }}
{{- end }}
