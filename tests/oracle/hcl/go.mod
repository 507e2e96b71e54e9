module daypass/tests/oracle/hcl

go 1.25.3

require github.com/hashicorp/hcl v1.0.1-vault-7
