"""Tokens that can be recognised by their shape alone, each with the template of an example.

In a template ``%alnum:n%``, ``%hex:n%``, ``%upper:n%`` (capitals and digits), ``%digit:n%``, ``%letter:n%``
and ``%base64:n%`` stand for ``n`` random characters. A pattern matches the secret and nothing else, from
its first character on; what must stand before it is said in a look-behind.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SHAPES", "TokenShape"]

END = r"(?![A-Za-z0-9])"


class TokenShape(NamedTuple):
    """A kind of token: the name of its rule, its expression, the template of an example."""

    name: str
    pattern: str
    example: str


def shape(name: str, pattern: str, example: str) -> TokenShape:
    """Make the shape whose token ends with the pattern (no letter or digit follows)."""
    return TokenShape(name, pattern + END, example)


SHAPES: tuple[TokenShape, ...] = (
    # cloud providers
    shape("aws-access-key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", "AKIA%upper:16%"),
    shape("google-api-key", r"AIza[A-Za-z0-9_-]{35}", "AIza%alnum:35%"),
    shape("google-oauth", r"ya29\.[A-Za-z0-9_-]{20,}", "ya29.%alnum:60%"),
    shape("google-oauth", r"GOCSPX-[A-Za-z0-9_-]{28}", "GOCSPX-%alnum:28%"),
    shape("google-oauth", r"1//0[A-Za-z0-9_-]{40,}", "1//0%alnum:60%"),
    shape("azure-key", r"(?<=AccountKey=)[A-Za-z0-9+/]{86}==", "AccountKey=%base64:86%=="),
    shape("azure-key", r"(?<=SharedAccessKey=)[A-Za-z0-9+/]{43}=", "SharedAccessKey=%base64:43%="),
    shape("azure-client-secret", r"[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{31,34}", "%alnum:3%8Q~%alnum:34%"),
    shape("alibaba-key", r"LTAI[A-Za-z0-9]{17,24}", "LTAI%alnum:20%"),
    shape("tencent-key", r"AKID[A-Za-z0-9]{32}", "AKID%alnum:32%"),
    shape("digitalocean-token", r"do[opr]_v1_[0-9a-f]{64}", "dop_v1_%hex:64%"),
    shape("heroku-key", r"HRKU-[A-Za-z0-9_-]{36,}", "HRKU-%alnum:60%"),
    shape("fly-token", r"f(?:o1|m1r|m2)_[A-Za-z0-9+/=_-]{40,}", "fo1_%alnum:43%"),
    shape("netlify-token", r"nf[pcoub]_[A-Za-z0-9]{36,}", "nfp_%alnum:36%"),
    shape("cloudflare-key", r"v1\.0-[0-9a-f]{24}-[0-9a-f]{146}", "v1.0-%hex:24%-%hex:146%"),
    shape("tailscale-key", r"tskey-[a-z]{2,12}-[A-Za-z0-9-]{16,}", "tskey-auth-%alnum:12%CNTRL-%alnum:32%"),
    # code hosts and package registries
    shape("github-token", r"gh[pousr]_[A-Za-z0-9]{36,255}", "ghp_%alnum:36%"),
    shape("github-token", r"github_pat_[A-Za-z0-9_]{22,255}", "github_pat_%alnum:22%_%alnum:59%"),
    shape(
        "gitlab-token",
        r"gl(?:[prd]t|pat|ptt|cbt|ft|imt|agent|oas|soat|ffct|rt-t\d)-[A-Za-z0-9_.-]{20,}(?<!\.)",
        "glpat-%alnum:20%",
    ),
    shape("bitbucket-token", r"AT(?:BB|CTT3|ATT3)[A-Za-z0-9_=-]{24,}", "ATBB%alnum:32%"),
    shape("npm-token", r"npm_[A-Za-z0-9]{36}", "npm_%alnum:36%"),
    shape("pypi-token", r"pypi-[A-Za-z0-9_-]{50,}", "pypi-AgE%alnum:120%"),
    shape("rubygems-key", r"rubygems_[0-9a-f]{48}", "rubygems_%hex:48%"),
    shape("crates-token", r"cio[A-Za-z0-9]{32}", "cio%alnum:32%"),
    shape("nuget-key", r"oy2[a-z0-9]{43}", "oy2%hex:43%"),
    shape("clojars-token", r"CLOJARS_[a-z0-9]{60}", "CLOJARS_%hex:60%"),
    shape("docker-token", r"dckr_[po]at_[A-Za-z0-9_-]{20,}", "dckr_pat_%alnum:27%"),
    shape("artifactory-key", r"AKCp[A-Za-z0-9]{69}", "AKCp%alnum:69%"),
    # infrastructure
    shape("vault-token", r"hv[sbr]\.[A-Za-z0-9_-]{20,}", "hvs.%alnum:90%"),
    shape(
        "vault-token", r"(?<![A-Za-z0-9_./-])s\.(?=[A-Za-z]{0,23}[0-9])[A-Za-z0-9]{24}(?![\w-]|\.\w)", "s.%alnum:23%7"
    ),
    shape("terraform-token", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}", "%alnum:14%.atlasv1.%alnum:67%"),
    shape("pulumi-token", r"pul-[0-9a-f]{40}", "pul-%hex:40%"),
    shape("doppler-token", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{30,}(?<!\.)", "dp.pt.%alnum:43%"),
    shape("age-key", r"AGE-SECRET-KEY-1[0-9A-Z]{58}", "AGE-SECRET-KEY-1%upper:58%"),
    shape("grafana-token", r"gl(?:sa|c)_[A-Za-z0-9+/=_]{32,}", "glsa_%alnum:32%_%hex:8%"),
    shape("newrelic-key", r"NR(?:AK|JS|II|IQ)-[A-Za-z0-9-]{19,}", "NRAK-%upper:27%"),
    shape("dynatrace-token", r"dt0[a-z]\d{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}", "dt0c01.%upper:24%.%upper:64%"),
    shape("sentry-token", r"sntry[su]_[A-Za-z0-9+/=_]{40,}", "sntryu_%hex:64%"),
    shape("databricks-token", r"dapi[0-9a-f]{32}(?:-\d)?", "dapi%hex:32%"),
    shape("planetscale-token", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,}(?<!\.)", "pscale_pw_%alnum:43%"),
    shape("supabase-key", r"sb(?:p|_secret)_[A-Za-z0-9_-]{30,}", "sbp_%hex:40%"),
    shape("circleci-token", r"CCI(?:PAT|PRJ)_[A-Za-z0-9_]{40,}", "CCIPAT_%alnum:22%_%hex:40%"),
    shape("buildkite-token", r"bku[ac]_[A-Za-z0-9]{40}", "bkua_%alnum:40%"),
    shape("sourcegraph-token", r"sgp_(?:[a-z0-9]{16}_)?[0-9a-f]{40}", "sgp_%hex:40%"),
    shape("postman-key", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}", "PMAK-%hex:24%-%hex:34%"),
    shape("1password-token", r"ops_eyJ[A-Za-z0-9_=-]{100,}", "ops_eyJ%alnum:200%"),
    # language models
    shape("anthropic-key", r"sk-ant-[A-Za-z0-9_-]{20,}", "sk-ant-api03-%alnum:93%AA"),
    shape("openai-key", r"sk-(?:proj|svcacct|admin|None|or-v1|lf)-[A-Za-z0-9_-]{20,}", "sk-proj-%alnum:48%"),
    shape("openai-key", r"sk-(?=[A-Za-z]{0,31}[0-9])[A-Za-z0-9]{32,}", "sk-%alnum:20%7%alnum:27%"),
    shape("huggingface-token", r"(?:hf|api_org)_[A-Za-z0-9]{30,}", "hf_%letter:34%"),
    shape("groq-key", r"gsk_[A-Za-z0-9]{40,}", "gsk_%alnum:52%"),
    shape("xai-key", r"xai-[A-Za-z0-9]{60,}", "xai-%alnum:80%"),
    shape("perplexity-key", r"pplx-[A-Za-z0-9]{40,}", "pplx-%alnum:48%"),
    shape("replicate-token", r"r8_[A-Za-z0-9]{37}", "r8_%alnum:37%"),
    shape("pinecone-key", r"pcsk_[A-Za-z0-9_]{40,}", "pcsk_%alnum:69%"),
    shape("langsmith-key", r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}", "lsv2_pt_%hex:32%_%hex:10%"),
    # messages, mail, payment, office
    shape("slack-token", r"xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}", "xoxb-%digit:11%-%digit:12%-%alnum:24%"),
    shape("slack-token", r"xapp-\d-[A-Z0-9]+-\d+-[0-9a-f]{20,}", "xapp-1-A%upper:10%-%digit:13%-%hex:64%"),
    shape(
        "slack-webhook",
        r"(?:(?<=slack\.com/services/)|(?<=slack\.com/triggers/)|(?<=slack\.com/workflows/))[A-Za-z0-9/_-]{30,}",
        "hooks.slack.com/services/T%upper:8%/B%upper:8%/%alnum:24%",
    ),
    shape(
        "discord-webhook",
        r"(?<=/api/webhooks/)\d{17,20}/[A-Za-z0-9_-]{60,}",
        "discord.com/api/webhooks/%digit:18%/%alnum:68%",
    ),
    shape(
        "discord-token",
        r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
        "M%alnum:25%.%alnum:6%.%alnum:38%",
    ),
    shape(
        "teams-webhook",
        r"(?<=\.webhook\.office\.com/webhookb2/)[A-Za-z0-9@/-]{60,}",
        "x.webhook.office.com/webhookb2/%hex:36%@%hex:36%/IncomingWebhook/%hex:32%",
    ),
    shape("telegram-token", r"\d{8,10}:AA[A-Za-z0-9_-]{32,33}", "%digit:10%:AA%alnum:33%"),
    shape("stripe-key", r"(?:[sr]k_(?:live|test|prod)|whsec)_[A-Za-z0-9+/=]{16,}", "sk_live_%alnum:24%"),
    shape("square-token", r"(?:sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}|EAAA[A-Za-z0-9_-]{60})", "sq0atp-%alnum:22%"),
    shape("shopify-token", r"shp(?:at|ca|pa|ss|tka)_[0-9A-Fa-f]{32}", "shpat_%hex:32%"),
    shape("sendgrid-key", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}", "SG.%alnum:22%.%alnum:43%"),
    shape("mailgun-key", r"key-[0-9a-f]{32}", "key-%hex:32%"),
    shape("mailchimp-key", r"[0-9a-f]{32}-us\d{1,2}", "%hex:32%-us12"),
    shape("brevo-key", r"xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}", "xkeysib-%hex:64%-%alnum:16%"),
    shape("twilio-key", r"SK[0-9a-f]{32}", "SK%hex:32%"),
    shape("airtable-token", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}", "pat%alnum:14%.%hex:64%"),
    shape("hubspot-token", r"pat-(?:na|eu)\d-[0-9a-f-]{36}", "pat-na1-%hex:36%"),
    shape("linear-key", r"lin_(?:api|oauth)_[A-Za-z0-9]{40,}", "lin_api_%alnum:40%"),
    shape("notion-token", r"(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43})", "ntn_%alnum:46%"),
    shape("figma-token", r"figd_[A-Za-z0-9_-]{40}", "figd_%alnum:40%"),
    shape("dropbox-token", r"sl\.[A-Za-z0-9_-]{100,}", "sl.%alnum:130%"),
    shape("mapbox-token", r"sk\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}", "sk.eyJ%alnum:60%.%alnum:22%"),
    # signed tokens (JWS, JWE), whoever made them
    shape(
        "jwt",
        r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){1,3}",
        "eyJ%alnum:33%.eyJ%alnum:60%.%alnum:43%",
    ),
)
