"""A played project: three hundred people, two sites and a week, on real processes, checked.

The way of it: `cast` (who) and `calendar` (when) → `scenario` with `story`, `mishaps` and `verbs`
(what) → `acting` (sent and answered) → `model` or `wire` (by whom) → `picture` (what came of it).
`play` runs it on the processes of `stage`.
"""
