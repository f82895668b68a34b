"""Kubernetes's own conformance tests against this product.

What is here: a Go module that requires upstream's and makes one test binary of its end-to-end tests (`go.mod`, `conformance_test.go`), the
table of the tests with the capability that each of them asks for (`tests.tsv`), and the run (`python -m tests.conformance`, which is
`scripts/conformance`): build, choose, bring up a cluster, let Ginkgo run the tests, write the report. Only tests that upstream marks
[Conformance] are ever chosen, and what is reported is what Ginkgo has reported: a test that was not chosen, or skipped itself, is not a
pass.
"""
