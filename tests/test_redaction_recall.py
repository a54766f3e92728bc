"""How many secrets are found and how few other commands are touched: on templates of our own and on public data.

A template holds a secret between « and »; ``%kind:length%`` in it is filled with random text, so that no value
that looks live is ever written down.
"""

import json
import random
import re
import string
import subprocess
import sys

import pytest

from omnimemory.sources.redaction import Redactor

ALPHABETS = {
    "alnum": string.ascii_letters + string.digits,
    "letter": string.ascii_letters,
    "hex": "0123456789abcdef",
    "upper": string.ascii_uppercase + string.digits,
    "digit": string.digits,
    "base64": string.ascii_letters + string.digits + "+/",
}
REDACTED = r"\[REDACTED:[a-z0-9-]+\]"


def filled(template: str, seed: int) -> str:
    """Return the template with random text; the first character is never a digit, as in a chosen password."""
    rand = random.Random(f"{template} {seed}")
    return re.sub(r"%(\w+):(\d+)%", lambda m: "".join(rand.choice(ALPHABETS[m[1]]) for _ in range(int(m[2]))), template)


SECRETS = {
    "mysql glued": "mysql -h orders-db -u shop -p«%alnum:12%» orders -e 'show tables'",
    "mysql quoted": "mariadb-dump -ushop --password='«%alnum:6%$%alnum:5%!»' orders > orders.sql",
    "mysqladmin": "mysqladmin -u root password «%alnum:10%»",
    "psql url": "psql 'postgresql://reports:«%alnum:14%»@10.1.2.3:5433/ledger?sslmode=require'",
    "pg environment": "PGPASSWORD=«%alnum:9%» pg_restore -d ledger ledger.dump",
    "redis": "redis-cli -h cache01 -a «%alnum:16%» --scan --pattern 'cart:*'",
    "mongo url": 'mongorestore --uri="mongodb+srv://etl:«%alnum:12%»@cluster7.example.net/raw" dump/',
    "sqlplus": "sqlplus hr/«%alnum:8%»@//ora1:1521/XE @report.sql",
    "sqlcmd": "sqlcmd -S tcp:sql1,1433 -U sa -P '«%alnum:10%#»' -Q 'select 1'",
    "rabbitmq": "rabbitmqctl change_password worker «%alnum:11%»",
    "sql user": "psql -c \"ALTER ROLE app WITH LOGIN PASSWORD '«%alnum:12%»'\" ledger",
    "sql identified": "mysql -e \"CREATE USER 'etl'@'%' IDENTIFIED BY '«%alnum:12%»'\"",
    "curl user": "curl -sS -u ci:«%alnum:15%» https://nexus.example.org/raw/app.zip -o app.zip",
    "curl header": "curl -s -H 'PRIVATE-TOKEN: «%alnum:20%»' https://git.example.org/api/v4/projects | jq length",
    "curl bearer": 'curl -XDELETE -H "Authorization: Bearer «%alnum:40%»" https://api.example.org/v2/hosts/7',
    "curl cookie": "curl -b 'sid=«%hex:32%»' https://shop.example.org/cart".replace("sid=«", "«sid="),
    "curl json": 'curl -d \'{"login":"ann","password":"«%alnum:10%»"}\' https://id.example.org/session',
    "curl escaped json": 'curl -d "{\\"api_key\\":\\"«%alnum:24%»\\"}" https://api.example.org/keys',
    "curl form": "curl -d 'user=ann&password=«%alnum:10%»&remember=1' https://id.example.org/login",
    "query": "wget 'https://files.example.org/report.csv?access_token=«%alnum:32%»&format=csv'",
    "wget": "wget --http-user=ann --http-password=«%alnum:10%» https://files.example.org/a.iso",
    "httpie": "http -a ann:«%alnum:12%» PUT https://api.example.org/me name=Ann",
    "httpie header": "https POST api.example.org/jobs X-Auth-Token:«%alnum:30%» kind=full",
    "proxy": "export HTTPS_PROXY=http://ann:«%alnum:9%»@proxy.example.org:3128",
    "lftp": "lftp -u ann,«%alnum:9%» -e 'mirror -R site; bye' ftp.example.org",
    "git remote": "git remote add ci https://ann:«%alnum:22%»@git.example.org/team/app.git",
    "docker login": "docker login -u ann -p «%alnum:14%» registry.example.org",
    "docker stdin": "printf '%s' «%alnum:14%» | docker login registry.example.org -u ann --password-stdin",
    "docker run": "docker run --rm -e MARIADB_ROOT_PASSWORD=«%alnum:12%» -p 3306:3306 mariadb:11",
    "docker exec": "docker exec -i db1 mysql -uroot -p«%alnum:12%» orders < fix.sql",
    "docker build": "docker build --build-arg NPM_TOKEN=«%alnum:36%» -t app:dev .",
    "kubectl literal": "kubectl -n pay create secret generic psp --from-literal=whatever=«%alnum:20%»",
    "kubectl exec": "kubectl exec -n pay deploy/db -- sh -c 'mysqldump -uroot -p«%alnum:12%» pay' > pay.sql",
    "helm": "helm install pg bitnami/postgresql --set auth.postgresPassword=«%alnum:12%»,auth.database=pay",
    "vault": "vault kv put secret/pay/psp user=ann pin=«%alnum:12%»".replace("user=ann ", ""),
    "az": "az login --service-principal -u 0b1c -p «%alnum:34%» --tenant contoso.example",
    "aws": "aws configure set aws_secret_access_key «%base64:40%» --profile dev",
    "aws environment": "AWS_SECRET_ACCESS_KEY=«%base64:40%» aws s3 sync site/ s3://site",
    "gcloud": "gcloud sql users create ann --instance=pay --password=«%alnum:12%»",
    "terraform": "terraform apply -var 'db_password=«%alnum:12%»' -auto-approve",
    "ansible": "ansible-playbook -l web site.yml -e 'ansible_sudo_pass=«%alnum:9%»'",
    "ssh remote": "ssh ann@web1 \"mysql -uroot -p«%alnum:10%» -e 'show slave status'\"",
    "sshpass": "sshpass -p '«%alnum:8%!»' rsync -a site/ ann@web1:/srv/site/",
    "sudo stdin": "echo «%alnum:9%» | sudo -S apt-get -y upgrade",
    "chpasswd": "echo 'ann:«%alnum:10%»' | sudo chpasswd",
    "here-string": "docker login -u ann --password-stdin <<< «%alnum:14%»",
    "here-document": "sudo -S id <<EOF\n«%alnum:14%»\nEOF",
    "env file": "cat > .env <<EOF\nPORT=8080\nDB_PASSWORD=«%alnum:14%»\nEOF",
    "yaml": "cat <<'EOF' > values.yaml\nauth:\n  password: «%alnum:14%»\nEOF",
    "openssl": "openssl enc -d -aes-256-cbc -pbkdf2 -in b.enc -out b.tar -pass pass:«%alnum:12%»",
    "gpg": "gpg --batch --passphrase «%alnum:14%» -d secrets.gpg",
    "archive": "7z a -p«%alnum:10%» -mhe=on backup.7z docs/",
    "zip": "unzip -P «%alnum:10%» backup.zip -d out",
    "keytool": "keytool -importkeystore -srckeystore a.jks -srcstorepass «%alnum:8%» -destkeystore b.p12",
    "samba": "smbclient //nas/media -U 'ann%«%alnum:9%»' -c 'ls'",
    "cifs": "sudo mount -t cifs //nas/media /mnt/m -o username=ann,password=«%alnum:9%»,vers=3.0",
    "ldap": "ldapsearch -x -D cn=admin,dc=example -w «%alnum:10%» -b dc=example '(uid=ann)'",
    "ipmi": "ipmitool -I lanplus -H bmc7 -U root -P «%alnum:8%» chassis status",
    "wifi": "nmcli device wifi connect Cafe password '«%alnum:12%»' ifname wlan0",
    "java": "java -Djavax.net.ssl.trustStorePassword=«%alnum:9%» -jar app.jar --port 8080",
    "jenkins": "java -jar jenkins-cli.jar -s https://ci.example.org -auth ann:«%hex:34%» list-jobs",
    "nested": "for h in a b; do ssh $h 'sudo sh -c \"PGPASSWORD=«%alnum:9%» psql -c select\"'; done",
    "deeply nested": 'ssh gw "ssh web1 \'sh -c \\"mysql -uroot -p«%alnum:9%» -e status\\"\'"',
    "escaped quotes": 'ssh db1 "mysql -uroot -p\\"«%alnum:9%»\\" -e status"',
    "filtered": "echo «%base64:24%» | base64 -d | tr -d '\\n' | docker login -u ann --password-stdin",
    "group": "(echo «%alnum:9%»; cat archive.tar) | sudo -S tar -x",
    "unknown user and -w": "frobnicate -U ann -w q«%alnum:9%»7 status".replace("q«", "«q").replace("»7", "7»"),
    "windows": "frobnicate /user:ann /password:«%alnum:9%» /quiet",
    "substitution": "TOKEN=$(curl -s -u ann:«%alnum:12%» https://id.example.org/token) make deploy",
    "fish": "set -gx GITEA_TOKEN «%hex:40%»",
    "powershell": '$env:API_TOKEN = "«%alnum:24%»"; npm test',
    "python": 'python -c \'import db; db.connect(host="h", password="«%alnum:12%»")\'',
    "sed": "sed -i 's/DB_PASSWORD=.*/DB_PASSWORD=«%alnum:12%»/' .env",
    "pgpass": "echo 'db1:5432:ledger:ann:«%alnum:9%»' >> ~/.pgpass",
    "unknown long flag": "frobnicate sync --remote-api-key «%alnum:20%» --verbose",
    "unknown attached": "frobnicate sync --dbPassword=«%alnum:12%» all",
    "unknown user and -p": "frobnicate -u ann -p «%alnum:12%» status",
    "unknown environment": "FROB_AUTH_TOKEN=«%alnum:24%» frobnicate status",
    "config set": "frobnicate config set registry.auth_token «%alnum:24%»",
    "expect": 'expect -c \'spawn ssh ann@sw1; expect "assword:"; send "«%alnum:9%»\\r"; interact\'',
    "private key": "printf '-----BEGIN RSA PRIVATE KEY-----\\n«%base64:90%»\\n-----END RSA PRIVATE KEY-----' > k.pem",
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("template", SECRETS.values(), ids=SECRETS.keys())
def test_the_secret_goes_and_the_rest_of_the_command_stays(template, seed):
    text = filled(template, seed)
    before, secret, after = re.split("[«»]", text)
    found = Redactor().command(before + secret + after)
    assert re.fullmatch(re.escape(before) + REDACTED + re.escape(after), found.text), found.text
    assert sum(found.counts.values()) == 1
    assert not found.skip


BENIGN = """
mysql -u shop -p orders
mysql -h db1 -u shop -p"$DB_PASSWORD" orders
mysql --defaults-extra-file=~/.my.cnf --password shop
psql -h db1 -p 5433 -U ann ledger
psql "postgresql://ann@db1:5433/ledger"
PGPASSWORD=$(pass show db1/ann) psql -U ann ledger
PGPASSFILE=~/.pgpass.work pg_dump ledger
redis-cli -h cache01 -p 6380 keys 'session:*'
mongosh "mongodb://db1:27017/raw"
curl -u ann https://nexus.example.org/raw/app.zip
curl -u "$NEXUS_USER:$NEXUS_PASS" -T app.zip https://nexus.example.org/raw/
curl -H "Authorization: Bearer $(gcloud auth print-access-token)" https://api.example.org/v2/hosts
curl -H 'Accept: application/json' -H 'Idempotency-Key: order-2024-11-20' https://api.example.org/orders
curl -b cookies.txt -c cookies.txt https://shop.example.org/cart
curl -o auth.md https://example.org/docs/authentication?page=2
curl http://localhost:8080/users@example.org
wget --user=ann --ask-password https://files.example.org/a.iso
git clone git@git.example.org:team/token-service.git
git clone https://ann@git.example.org/team/app.git
git commit -m "auth: the password is no longer logged, token expires after 1h"
git log --author=ann --grep='secret key' -S password
git checkout 1f0c6f3a9d3b4f0f8f6f6f6d0a1b2c3d4e5f6a7b
git config --global credential.helper cache
docker run -d -u 1000:1000 -p 8080:80 -v /srv/www:/www nginx:1.27
docker run -e DB_PASSWORD -e TOKEN_FILE=/run/secrets/token app
docker exec -it db1 mysql -uroot -p orders
docker compose -p shop --env-file prod.env up -d
docker pull docker.io/library/redis@sha256:e422889e156ebea83856b6ff973bfe0c86bce867d80def228044eeecf925592b
docker build --secret id=npmrc,src=$HOME/.npmrc .
kubectl get secret psp -o jsonpath='{.data.token}' | base64 -d
kubectl create secret generic psp --from-file=token=./token.txt
kubectl create token ci --duration=1h
helm upgrade pg bitnami/postgresql --set auth.existingSecret=pg-auth --set image.tag=16.4.0
vault kv get -field=password secret/pay/psp
aws secretsmanager get-secret-value --secret-id pay/psp
aws s3api list-objects --bucket logs --max-items 10 --starting-token abcdefgh
gcloud secrets versions access latest --secret=psp-key
az account get-access-token --resource https://vault.example.net
terraform plan -var-file=secrets.tfvars -var "region=eu-west-1"
ansible-playbook site.yml --ask-become-pass --vault-password-file ~/.vault_pass
ssh -p 2222 -i ~/.ssh/id_ed25519 ann@web1 'sudo systemctl restart auth-token'
sshpass -f ~/.web1.pw ssh ann@web1
ssh-keygen -t ed25519 -C "ann@example.org" -f ~/.ssh/deploy_key
openssl rand -base64 24 | tee session.key
openssl req -new -key server.key -passin file:server.pw -out server.csr
openssl passwd -6 -stdin < pw.txt
gpg --batch --passphrase-file ~/.gpg.pw -d notes.gpg
7z x backup.7z -o/tmp/out
unzip -P "$ZIP_PASSWORD" backup.zip
mount -o loop,ro disk.iso /mnt/iso
smbclient -L nas -U ann
sudo mount -t cifs //nas/media /mnt/m -o credentials=/etc/nas.cred,vers=3.0
passwd ann
export SSH_AUTH_SOCK=$XDG_RUNTIME_DIR/ssh-agent.socket
export API_TOKEN="${API_TOKEN:?}"
export GIT_ASKPASS=/usr/bin/ksshaskpass
read -rs -p "Token: " TOKEN && export TOKEN
echo "$TOKEN" | gh auth login --with-token
echo "password reset mail sent"
echo abc | git hash-object --stdin
printf 'y\\n' | sudo apt-get install pwgen
grep -rn 'password=' src | grep -v test
rg "api_key\\s*=" -g '*.py'
sed -i 's/password=.*/password=/' app.ini
awk -F: '$3 >= 1000 {print $1}' /etc/passwd
python -m pytest tests/test_passwords.py -k "token and not slow" -p no:cacheprovider
python train.py --max-tokens 4096 --pad-token-id 0 --tokenizer gpt2
pip install "passlib[bcrypt]==1.7.4" tokenizers
npm install jsonwebtoken passport-local
cat ~/.ssh/id_ed25519.pub
find . -name '*.key' -newer tokens.db
ls -la ~/.password-store
alias pwd='pwd -P'
tar -xpf site.tar -C /srv
cp -u -p a.txt b.txt
ps -u ann -o pid,cmd
make deploy ENV=prod TOKEN="$CI_TOKEN"
keepassxc-cli open ~/vault.kdbx
certbot certonly -d example.org -m ann@example.org
scp -P 2222 a.tgz ann@web1:/srv/
base64 -d <<< "$ENCODED" > out.bin
bc <<< '2^10'
jq -r '.token' response.json
"""


@pytest.mark.parametrize("line", BENIGN.strip().splitlines())
def test_a_look_alike_is_not_touched(line):
    found = Redactor().command(line)
    assert found.text == line
    assert found.counts == {}


def test_the_generated_cases_of_the_public_set_are_all_redacted(shared_data, tmp_path):
    (tmp_path / "gen.py").write_text((shared_data / "secrets" / "gen.py").read_text())
    subprocess.run([sys.executable, str(tmp_path / "gen.py")], check=True, capture_output=True)
    spans: dict[int, list[str]] = {}
    for row in (tmp_path / "secret_spans.tsv").read_text().splitlines():
        number, _, span = row.split("\t")
        spans.setdefault(int(number), []).append(span)
    redactor = Redactor()
    wrong = []
    lines = (tmp_path / "secret.txt").read_text().splitlines()
    for number, line in enumerate(lines, 1):
        found = redactor.command(line).text
        for span in spans[number]:
            before, after = line.split(span, 1)
            kept = span.partition(":")[0] + ":" if span.startswith("deploy:") else ""  # its user name may stay
            if not re.fullmatch(f"{re.escape(before)}({kept})?{REDACTED}{re.escape(after)}", found):
                wrong.append(found)
    assert len(lines) == 60
    assert wrong == []


def test_the_look_alikes_of_the_public_set_are_not_touched(shared_data):
    lines = (shared_data / "secrets" / "benign.txt").read_text().splitlines()
    assert len(lines) == 200
    assert [line for line in lines if Redactor().command(line).text != line] == []


def test_public_commands_without_a_word_for_a_secret_are_hardly_touched(shared_data):
    rows = (shared_data / "tldr" / "dev.tsv").read_text().splitlines()[1:]
    lines = {row.split("\t")[2] for row in rows}
    lines |= {json.loads(row)["command"] for row in (shared_data / "edurange" / "dev.jsonl").read_text().splitlines()}
    redactor = Redactor()
    touched = [line for line in lines if redactor.command(line).text != line]
    about = re.compile(r"(?i)passw|passphrase|passcode|secret|token|api.?key|access.?key|pwd|auth|hash|://\S*:\S*@")
    assert len(lines) > 10_000
    assert len([line for line in touched if not about.search(line)]) <= 0.002 * len(lines)
    assert len(touched) <= 0.02 * len(lines)


def test_public_commands_are_redacted_once_and_for_all(shared_data):
    rows = (shared_data / "tldr" / "dev.tsv").read_text().splitlines()[1:]
    redactor = Redactor()
    once = [redactor.command(row.split("\t")[2]).text for row in rows]
    assert [redactor.command(text).text for text in once] == once


def test_the_templates_are_not_filled_with_what_looks_live():
    for template in SECRETS.values():
        secret = re.split("[«»]", template)[1]
        assert re.search(r"%\w+:\d+%", secret)
