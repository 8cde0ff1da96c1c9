"""The pages of the service: queue, use, groups, administration. They show what the API tells, and post what it takes.

A page never decides anything: it asks the app's own API as its visitor (`hub.web.pages.inner`), so that no rule is
there twice, and what the API refuses is shown in its words.
"""
