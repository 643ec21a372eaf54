{{/* What the operator may do in a namespace that it watches. No verb on Secrets: it passes references on and never
reads a value. */}}
{{- define "crewrun.rules" -}}
- apiGroups: [crewrun.dev]
  resources: [crewruns, crews, crewprofiles, crewqueues]
  verbs: [list, watch]
# A run's Crew is looked up before the run is refused for the want of it.
- apiGroups: [crewrun.dev]
  resources: [crews]
  verbs: [get]
- apiGroups: [crewrun.dev]
  resources: [crewruns/status, crewqueues/status]
  verbs: [patch]
# ttlSecondsAfterFinished
- apiGroups: [crewrun.dev]
  resources: [crewruns]
  verbs: [delete]
# One Job per attempt; deleted when a run is stopped before its Pod exists.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# A run is stopped by deleting its Pod, which leaves the runner its grace period.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
# Those that a Crew (configMap) or a run (inputsFrom) names: read by name, never listed.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
{{- if .Values.reports.enabled }}
# What runners send and a run keeps: its checkpoint, and its output where that does not fit the status. Each is
# written whole, and read before, since what is there may be somebody else's or newer.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, update]
{{- end }}
{{- end }}
