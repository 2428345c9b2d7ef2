<?php
// The example application: a guest book.  What was written lies in MariaDB; who wrote is remembered in a session.
$ways = '/etc/gatehouse/sites/example-com';
header('Cache-Control: no-store');
session_start(['cookie_secure' => true, 'cookie_httponly' => true, 'use_strict_mode' => true]);
$visit = $_SESSION['visit'] = ($_SESSION['visit'] ?? 0) + 1;
$written = [];
try {
    $way = parse_ini_file("$ways/database.ini") ?: throw new RuntimeException('no database is told of');
    ini_set('mysqlnd.net_read_timeout', '5');
    $database = new PDO("mysql:host=$way[host];port=$way[port];dbname=$way[name]", $way['user'], $way['password'], [
        PDO::ATTR_TIMEOUT => 3,
        PDO::ATTR_EMULATE_PREPARES => false,
        PDO::MYSQL_ATTR_SSL_CA => $way['ca'],
        PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true,
    ]);
    $database->exec('CREATE TABLE IF NOT EXISTS entries (id INT AUTO_INCREMENT PRIMARY KEY, words VARCHAR(200))');
    if ($_SERVER['REQUEST_METHOD'] === 'POST') {
        $database->prepare('INSERT INTO entries (words) VALUES (?)')->execute([$_POST['words'] ?? '']);
    }
    $asked = $database->prepare('SELECT words FROM entries WHERE id > ? ORDER BY id DESC LIMIT 10');
    $asked->execute([0]);
    $written = $asked->fetchAll(PDO::FETCH_COLUMN);
    $cipher = $database->query("SHOW STATUS LIKE 'Ssl_cipher'")->fetch()[1];
} catch (Throwable $error) {
    error_log($error->getMessage());
    http_response_code(503);
}
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Guest book</title>
<img src="/logo.svg" alt="">
<p>Visit <?= $visit ?> of yours, answered by <?= gethostname() ?>.</p>
<?php if (http_response_code() === 503): ?>
<p>The guest book cannot be opened just now.</p>
<?php else: ?>
<ul data-cipher="<?= $cipher ?>">
<?php foreach ($written as $words): ?>
    <li><?= htmlspecialchars($words) ?></li>
<?php endforeach ?>
</ul>
<form method="post"><input name="words" maxlength="200"><button>Write</button></form>
<?php endif ?>
