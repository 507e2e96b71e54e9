# The pipeline as users write it: Vault's Terraform provider reads the credentials, Packer gets them. Runs where
# DAYPASS_TF_PROVIDER names the provider's binary.
terraform {
  required_providers {
    vault = {
      source = "hashicorp/vault"
    }
  }
}

variable "accounts" {
  type = map(string)
}

variable "template" {
  type = string
}

provider "vault" {}

data "vault_aws_access_credentials" "image" {
  for_each = var.accounts
  backend  = "cdp/aws/${each.key}"
  type     = "sts"
  role     = "ecr-${each.key}"
}

resource "terraform_data" "image" {
  for_each = var.accounts

  provisioner "local-exec" {
    interpreter = ["/bin/sh", "-euc"]
    environment = {
      ENVIRONMENT           = each.key
      REGISTRY              = "${each.value}.dkr.ecr.us-east-1.amazonaws.com"
      TEMPLATE              = var.template
      AWS_ACCESS_KEY_ID     = data.vault_aws_access_credentials.image[each.key].access_key
      AWS_SECRET_ACCESS_KEY = data.vault_aws_access_credentials.image[each.key].secret_key
      AWS_SESSION_TOKEN     = data.vault_aws_access_credentials.image[each.key].security_token
    }
    command = <<-EOT
      packer build -color=false -var aws_access_key="$AWS_ACCESS_KEY_ID" -var aws_secret_key="$AWS_SECRET_ACCESS_KEY" \
        -var aws_token="$AWS_SESSION_TOKEN" -var registry="$REGISTRY" -var environment="$ENVIRONMENT" "$TEMPLATE"
    EOT
  }
}
