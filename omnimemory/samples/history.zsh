: 1772444486:0;cd ~/src/shop
: 1772444528:0;git pull --rebase
: 1772444633:22;make up
: 1772444671:0;docker compose ps
: 1772444693:0;git switch -c trigram-search
: 1772444834:420;$EDITOR storefront/search.py
: 1772445282:6;pytest tests/storefront -q
: 1772445385:6;pytest tests/storefront -q -x --lf
: 1772445409:0;git diff
: 1772445542:0;git add -p
: 1772445600:0;git commit -m "Search authors by trigram similarity"
: 1772445613:0;git push -u origin trigram-search
: 1772531426:0;git status
: 1772531541:0;python -m venv .venv
: 1772531652:0;source .venv/bin/activate
: 1772531673:31;pip install -r requirements-dev.txt
: 1772531769:0;export SHOP_DB_PASSWORD=correct-horse-battery
: 1772531796:0;psql -h localhost -U shop -c 'CREATE EXTENSION IF NOT EXISTS pg_trgm' shop
: 1772531941:340;psql -h localhost -U shop shop
: 1772532393:0;python manage.py makemigrations storefront
: 1772532412:0;python manage.py migrate
: 1772532560:38;pytest -q
: 1772532633:0;git commit -am "Add the trigram index in a migration"
: 1772532694:0;git commit --amend --no-edit
: 1772532713:0;git push --force-with-lease
: 1772719605:0;docker compose logs -f storefront
: 1772719621:180;docker compose build --no-cache storefront
: 1772719861:0;docker compose up -d
: 1772719876:0;docker system df
: 1772720022:17;docker system prune --all --volumes
: 1772720077:0;df -h
: 1772720155:0;du -sh ~/.cache/* | sort -h | tail
: 1772720266:0;rm -rf ~/.cache/pip
: 1772791960:0;git fetch --prune
: 1772792102:0;git branch --merged main | grep -v main | xargs git branch -d
: 1772792136:0;git stash
: 1772792286:0;git switch main
: 1772792368:0;git pull --rebase
: 1772792515:0;git switch trigram-search
: 1772792565:0;git stash pop
: 1772792595:0;git rebase -i main
: 1772792745:0;git push --force-with-lease
: 1773049732:0;cd ~/src/shop
: 1773049831:0;git pull --rebase
: 1773049859:0;make lint
: 1773050003:0;ruff check --fix .
: 1773050023:0;mypy storefront
: 1773050171:140;make test
: 1773050330:0;git log --oneline --graph --all | head -30
: 1773050386:0;git reset --soft HEAD~1
: 1773050517:0;git commit -m "Rank exact author names first"
: 1773050657:0;git push
: 1773311153:0;kubectl config use-context production
: 1773311237:0;kubectl -n shop get pods
: 1773311360:0;kubectl -n shop logs deploy/checkout --since=10m | grep ERROR
: 1773311480:0;kubectl -n shop describe pod checkout-7d9f8b6c5-x2x9k
: 1773311576:0;kubectl -n shop rollout restart deploy/checkout
: 1773311656:0;kubectl -n shop get pods --watch
: 1773311723:0;kubectl -n shop rollout undo deploy/checkout
: 1773311773:44;kubectl -n shop rollout status deploy/checkout
: 1773311883:0;psql -h db.internal -U readonly -c "SELECT pid, now() - xact_start AS age, query FROM pg_stat_activity ORDER BY age DESC LIMIT 5" shop
: 1773311907:0;psql -h db.internal -U malik -c 'SELECT pg_terminate_backend(48213)' shop
: 1773311987:0;kubectl -n shop logs deploy/checkout --since=2m | grep -c ERROR
: 1773401538:0;cd ~/src/infra
: 1773401668:0;git switch -c statement-timeout
: 1773401759:0;grep -rn statement_timeout .
: 1773401877:420;$EDITOR postgres/users.sql
: 1773402374:0;git commit -am "Statement timeout of 30 s for the checkout user"
: 1773402396:0;git push -u origin statement-timeout
: 1773760834:1260;ssh -L 5433:db.staging.internal:5432 bastion
: 1773762229:0;psql postgresql://shop:correct-horse-battery@localhost:5433/shop -c 'SELECT count(*) FROM orders'
: 1773762340:1260;ssh bastion
: 1773763646:0;scp bastion:/var/log/nginx/access.log.1 .
: 1773763737:0;awk '{print $9}' access.log.1 | sort | uniq -c | sort -rn
: 1773763779:0;grep ' 502 ' access.log.1 | cut -d' ' -f7 | sort | uniq -c | sort -rn | head
: 1773763908:0;wc -l access.log.1
: 1773764019:0;rm access.log.1
: 1773827714:0;cd ~/src/shop
: 1773827737:0;git pull --rebase
: 1773827883:0;git cherry-pick 4c1d9e2
: 1773828033:0;git cherry-pick --continue
: 1773828117:6;pytest tests/checkout -q
: 1773828214:0;git push
: 1773828307:0;curl -s http://localhost:8000/health | jq .
: 1773828438:0;curl -u partner:not-a-real-secret https://api.staging.books.example.com/v2/books?limit=5
: 1773828558:0;http GET localhost:8000/api/books author=='Le Guin'
: 1773938421:0;lsof -i :5432
: 1773938448:0;sudo systemctl stop postgresql
: 1773938521:0;sudo systemctl status postgresql
: 1773938646:0;journalctl -u docker --since "1 hour ago"
: 1773938666:0;journalctl -p err -b
: 1773938685:22;make up
: 1774001003:41;pg_dump -Fc -h localhost -U shop shop > shop.dump
: 1774001162:0;createdb -h localhost -U shop shop_restored
: 1774001238:95;pg_restore --jobs=4 -h localhost -U shop --dbname=shop_restored shop.dump
: 1774001435:0;psql -h localhost -U shop -c 'SELECT count(*) FROM orders' shop_restored
: 1774001527:0;dropdb -h localhost -U shop shop_restored
: 1774001536:0;ls -lh shop.dump
: 1774358222:0;cd ~/talks/search
: 1774358316:63;ffmpeg -i recording.mov -vcodec libx264 -crf 23 recording.mp4
: 1774358426:63;ffmpeg -i recording.mp4 -ss 00:01:30 -to 00:04:00 -c copy clip.mp4
: 1774358522:63;ffmpeg -i clip.mp4 -vn -acodec libmp3lame clip.mp3
: 1774358715:0;for f in *.wav; do\
  ffmpeg -i "$f" "${f%.wav}.flac"\
done
: 1774358734:0;magick slide.png -resize 50% slide-small.png
: 1774358793:0;pandoc notes.md -o notes.pdf
: 1774432097:0;cd ~/src/shop
: 1774432134:0;git pull --rebase
: 1774432201:0;git bisect start
: 1774432306:0;git bisect bad
: 1774432410:0;git bisect good v2.14.0
: 1774432541:96;git bisect run pytest tests/storefront/test_basket.py -q
: 1774432661:0;git bisect reset
: 1774432707:0;git revert 9b2e7aa
: 1774432825:0;git push
: 1774609906:0;tar czf logs-march.tar.gz logs/
: 1774610050:0;tar tzf logs-march.tar.gz | head
: 1774610125:0;tar xzf covers-backup.tar.gz -C /tmp/covers
: 1774610164:12;rsync -avz --delete public/ bastion:/srv/www/static/
: 1774610290:0;find . -name '*.pyc' -delete
: 1774610434:0;find . -type f -size +50M
: 1774610509:0;find logs -mtime +30 -name '*.log' -exec gzip {} +
: 1774967510:0;kubectl config use-context staging
: 1774967605:0;kubectl -n shop scale deploy/storefront --replicas=3
: 1774967706:0;kubectl -n shop port-forward svc/checkout 8080:80
: 1774967769:0;kubectl -n shop exec -it deploy/checkout -- sh
: 1774967811:0;kubectl -n shop get events --sort-by=.lastTimestamp
: 1774967836:0;kubectl get certificates --all-namespaces
: 1774967885:0;kubectl -n ingress describe certificate shop-tls
: 1774967927:0;openssl s_client -connect books.example.com:443 -servername books.example.com </dev/null | openssl x509 -noout -dates
: 1775123583:0;cd ~/src/shop
: 1775123646:0;git pull --rebase
: 1775123653:140;make test
: 1775123921:0;python -m cProfile -o prof.out manage.py warm_catalogue
: 1775123971:0;python -m pstats prof.out
: 1775124042:0;python -X importtime -c 'import shop' 2> import.log
: 1775124118:0;pip list --outdated
: 1775124123:0;pip-compile --upgrade requirements.in
: 1775643641:0;git switch -c payment-retry
: 1775643752:420;$EDITOR payments/worker.py
: 1775644312:6;pytest tests/payments -q -k retry
: 1775644416:0;git add -A
: 1775644564:0;git commit -m "Retry charges with the job's idempotency key"
: 1775644649:0;git push -u origin payment-retry
: 1775644685:0;gh pr create --fill
: 1775644820:210;gh pr checks --watch
: 1775645047:0;docker run --rm \\
  -v "$PWD:/src" \\
  -w /src node:22 npm run build
: 1776164820:0;kubectl config use-context staging
: 1776164967:0;kubectl get namespaces
: 1776165071:0;kubectl delete namespace preview-4711
: 1776165176:0;helm -n monitoring upgrade --install loki grafana/loki -f loki.yaml
: 1776165282:0;helm -n monitoring history loki
: 1776354404:0;ps aux --sort=-%mem | head
: 1776354434:0;kill -9 31337
: 1776354561:80;htop
: 1776354747:0;free -h
: 1776354766:0;crontab -e
: 1776354818:0;ssh-keygen -t ed25519 -C laptop-2026
: 1776354839:0;ssh-copy-id -i ~/.ssh/id_ed25519.pub bastion
: 1776354896:0;chmod 600 ~/.ssh/id_ed25519
: 1776678356:0;cd ~/src/shop
: 1776678401:0;git pull --rebase
: 1776678433:22;make up
: 1776678546:140;make test
: 1776678703:0;git status
: 1776678733:0;git log -p -S idempotency_key -- payments/
: 1776678737:0;docker compose down
