//go:build tools

package conformance

// Programs of upstream's that scripts/conformance builds beside the tests: Ginkgo's command line, which runs them in parallel
// processes, and the program of the image that most test pods run.
import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "k8s.io/kubernetes/test/images/agnhost"
)
