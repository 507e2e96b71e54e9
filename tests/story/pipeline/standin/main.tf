# What a pipeline does where Vault's Terraform provider is not to be had: Terraform's own `terraform_data`, and a
# Vault-compatible CLI in its local-exec. The credential goes to Packer in a file that only this user can read, not
# as an argument: Terraform prints the whole command when it fails.
variable "accounts" {
  type = map(string)
}

variable "template" {
  type = string
}

resource "terraform_data" "image" {
  for_each = var.accounts

  provisioner "local-exec" {
    interpreter = ["/bin/sh", "-euc"]
    environment = {
      ENVIRONMENT = each.key
      REGISTRY    = "${each.value}.dkr.ecr.us-east-1.amazonaws.com"
      TEMPLATE    = var.template
    }
    command = <<-EOT
      umask 077
      trap 'rm -f "$ENVIRONMENT.json"' EXIT
      bao write -format=json "cdp/aws/$ENVIRONMENT/sts/ecr-$ENVIRONMENT" ttl=60m \
        | jq '.data | {aws_access_key: .access_key, aws_secret_key: .secret_key, aws_token: .security_token}' > "$ENVIRONMENT.json"
      packer build -color=false -var-file="$ENVIRONMENT.json" -var registry="$REGISTRY" -var environment="$ENVIRONMENT" "$TEMPLATE"
    EOT
  }
}
