"""The policy: documents, loader, rendering, diff; the packaged libraries are the folders beside this file.

A policy is a folder of Markdown:

    spec.md              front matter id, title, version, licence, authors; the overview, which holds everywhere
    style.md             how to comply, refuse and safe-complete: `## How to refuse {#ST-2}`
    categories/ID.md     front matter id, title, summary; sections of clauses
    prompts/*.jsonl      seed prompts, if it has any

A category file has the sections `## Definitions`, `## Comply`, `## Refuse`, `## Safe-complete`, `## Guidance`,
`## Edge cases` and `## Examples`, each of them optional, in any order, among others of any name. A clause is a heading
`### Title {#SH-R1}`, or a paragraph or list item that ends in `{#SH-R1}`; `{#SH-R1 authority=user outcome=refuse}`
gives it attributes. Its outcome is the attribute's, else the section's, else `unspecified`. `[SH-R1]` and
`[words](#SH-R1)` refer to a clause. An example is `- [SH-R1] refuse: "the prompt" — why`. Headings in fenced code are
not headings.

Any other Markdown with such anchors loads too, as one file or a folder of files (`split` says how it is taken apart).

    loader      load_spec, seed_files          render      spec(category): what a model is shown
    layout      write_spec                     clauses     the clause table
    lint        what to mend, with lines       importing   other people's policies
    diff        two versions; stale rows       semver      what the next version should be
    versions    git revisions, runs, releases  coverage    which clauses rows apply (heatmap, suggest)
"""
